"""Questionnaires for labelleaks: an attack, a kind of target, a domain, a data set and a threshold rule."""
