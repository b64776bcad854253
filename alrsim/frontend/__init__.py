"""Models in: torch modules, Python factories and ONNX files become operator graphs."""
