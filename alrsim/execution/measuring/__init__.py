"""What is measured of a run: calibration, timelines, bytes of tensor storage, resident memory."""
