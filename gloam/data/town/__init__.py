"""data/town"""
