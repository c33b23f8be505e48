"""The Python face: the functions that notebooks and scripts call as ``saman.run`` and so on."""
