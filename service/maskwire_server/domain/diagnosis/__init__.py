"""What `maskwire doctor` finds out: whether results keep the promises of the contract.

Nothing here loads or runs anything; `composition/doctor.py` does.
"""
