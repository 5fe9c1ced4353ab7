"""gloam: lets machines recognise by night a place they have only seen by day."""

__version__ = "0.1.0"
