"""The CUDA backend of forge3d, on CuPy. Importing it imports no GPU library."""
