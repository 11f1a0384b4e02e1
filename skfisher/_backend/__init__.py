"""The one door to array libraries: nothing outside this folder names NumPy or torch."""
