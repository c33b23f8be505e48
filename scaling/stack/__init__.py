"""The weighted stack of scaling laws: features, distribution, weights, and the rules it is compared with."""
