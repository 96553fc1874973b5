"""Settings of sources beside Ray and Kubernetes: one file a source, named as its key in the settings file.

To add one: a file here with a class that inherits `base.SourceBlock` (its settings, and what it comes to), and one in
`autoscaler/sources/` that reads. Nothing else lists it: `autoscaler/settings/settings.py` finds the files here.
"""
