"""The TensorFlow engine of ``saman serve``, in a process of its own."""
