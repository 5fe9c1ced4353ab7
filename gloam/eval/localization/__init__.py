"""eval/localization"""
