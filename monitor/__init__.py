"""driftd: says when what a language model is asked or answers has changed, within a stated false-alarm budget."""

__version__ = "0.1.0"
