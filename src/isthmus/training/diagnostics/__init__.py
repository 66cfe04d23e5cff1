"""Diagnose networks that do not learn: dead units, vanishing gradients, average predictors."""
