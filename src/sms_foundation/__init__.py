"""SMS Foundation: one service through which an organisation's every text message comes in and goes out."""

__version__ = "0.1.0"
