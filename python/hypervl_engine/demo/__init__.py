"""The bundled demo: a tiny model trained for this project, pictures, and the renderer that made them."""
