"""training/networks/embedders"""
