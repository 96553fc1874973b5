"""Profiles of engines that nobody measured: from a shape, a GPU kind, and tables of GPU operations or a roofline."""
