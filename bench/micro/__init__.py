"""What single parts cost, measured by pytest-benchmark without a network: ``make bench``."""
