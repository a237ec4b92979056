"""What asset bodies call: rows of tables in, rows out, one module for each stage.

Each module turns columns into arrays, calls the domain packages, and turns arrays into columns. Neither Dagster nor
Lance is imported here; `collection` is handed a store.
"""
