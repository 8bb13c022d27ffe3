"""Running kernels on an emulated Hexagon (docs/hexagon.md)."""
