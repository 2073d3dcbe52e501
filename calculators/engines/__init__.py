"""Potentials in simulation engines: one file each, imported by name, none needed by the others.

They come with ``pip install 'pointedge[engines]'``.
"""
