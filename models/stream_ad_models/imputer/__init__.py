"""The conditional diffusion imputer: denoiser, masks, conditioning, one pass, intervals, weights."""
