"""How fast: MFU as measured, predicted, published or assumed; calibrations and the fit to them."""
