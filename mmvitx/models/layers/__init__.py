"""The operators that the backbones are made of, each alone in its file.

Tokens are channels-last everywhere: image tokens (B, N, C) row by row, so that the map (B, H, W, C)
is a view of them, and a class token (B, 1, C) apart from them.
"""

from .class_attention import ClassAttention
from .conv_attention import ConvAttention
from .depthwise_conv import DepthwiseConv, WindowedDepthwiseConv
from .drop_path import DropPath
from .mlp import Mlp
from .patch_embed import PatchEmbed
from .position_embedding import PositionEmbeddingResizer, resize_position_embedding
from .pyramid import Pyramid
from .recording import ceil_div, pad_to
from .resample import resample_tokens
from .self_attention import SelfAttention
from .talking_heads import TalkingHeadsAttention

__all__ = [
    'ClassAttention',
    'ConvAttention',
    'DepthwiseConv',
    'DropPath',
    'Mlp',
    'PatchEmbed',
    'PositionEmbeddingResizer',
    'Pyramid',
    'SelfAttention',
    'TalkingHeadsAttention',
    'WindowedDepthwiseConv',
    'ceil_div',
    'pad_to',
    'resample_tokens',
    'resize_position_embedding',
]
