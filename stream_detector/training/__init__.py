"""Training: windows from readings, weights from windows, and the calibration that travels with them."""
