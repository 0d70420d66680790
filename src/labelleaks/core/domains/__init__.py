"""Domains of inputs: bounds, projection, quantisation to what a real client can send, and distances."""

from labelleaks.core.domains.base import Domain, Group, Kind, Norm, check_range, distance, is_binary, token_columns
from labelleaks.core.domains.binary import Binary
from labelleaks.core.domains.box import Box
from labelleaks.core.domains.contract import need_domain, need_fit
from labelleaks.core.domains.layout import (
    LEAST_SIDE,
    SIDES,
    WORDS,
    Layout,
    Word,
    image_layout,
    image_size,
    is_ambiguous,
    shifted_axes,
    why_no_layout,
)
from labelleaks.core.domains.mixed import Continuous, Integer, Mixed, OneHot
from labelleaks.core.domains.text import SPELLINGS, Spelling, Text, Tokens, Vocabulary

__all__ = [
    "LEAST_SIDE",
    "SIDES",
    "SPELLINGS",
    "WORDS",
    "Binary",
    "Box",
    "Continuous",
    "Domain",
    "Group",
    "Integer",
    "Kind",
    "Layout",
    "Mixed",
    "Norm",
    "OneHot",
    "Spelling",
    "Text",
    "Tokens",
    "Vocabulary",
    "Word",
    "check_range",
    "distance",
    "image_layout",
    "image_size",
    "is_ambiguous",
    "is_binary",
    "need_domain",
    "need_fit",
    "shifted_axes",
    "token_columns",
    "why_no_layout",
]
