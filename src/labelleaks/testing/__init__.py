"""Tests for the authors of plug-ins: conformance rows, and targets whose leak is planted and known."""
