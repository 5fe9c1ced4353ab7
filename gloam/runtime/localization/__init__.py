"""runtime/localization"""
