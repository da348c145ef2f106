"""What arrays are called here; a docstring says more where more is to be said."""

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
"""A preprocessed signature, (1, H, W): paper 1, ink -1."""

Images = NDArray[np.float32]
"""Canvases, (N, 1, H, W)."""

Mask = NDArray[np.bool_]
"""What is true of each pixel of a page, (H, W) where nothing else is said."""

Vector = NDArray[np.float32]
"""An embedding, (D,): a vector of unit length, and the cells of a model that has them."""

Vectors = NDArray[np.float32]
"""Embeddings, (N, D)."""

Floats = NDArray[np.float64]
"""Distances, scores and other measurements, (N,) where nothing else is said."""

Rows = NDArray[np.intp]
"""Places in a table, (N,)."""
