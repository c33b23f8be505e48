"""Readers with random access: NumPy files, image folders, lists of files, TFRecord, Parquet, CSV."""
