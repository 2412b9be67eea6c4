"""Stand-in until the native binding lands."""
def available() -> bool:
    return False
