"""Does a compressed CNN still look at the right things?"""
