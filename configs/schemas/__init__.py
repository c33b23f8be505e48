"""Schemas of what people write: experiments, scripts, studies, clusters, policies."""
