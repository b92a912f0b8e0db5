"""Layers and models: everything a network is made of, with Keras's names and defaults."""

from trine.nn import initializers
from trine.nn.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from trine.nn.attention import MultiHeadAttention
from trine.nn.batch_normalization import BatchNormalization
from trine.nn.conv import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from trine.nn.dense import Dense
from trine.nn.dropout import Dropout
from trine.nn.embedding import Embedding
from trine.nn.flatten import Flatten, Permute, RepeatVector, Reshape
from trine.nn.input import Input
from trine.nn.layer_normalization import LayerNormalization
from trine.nn.merge import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract
from trine.nn.model import Model
from trine.nn.module import Mismatches, Module
from trine.nn.parameter import parameter
from trine.nn.policy import dtype_policy, training_mode
from trine.nn.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPool1D,
    MaxPool2D,
    MaxPooling1D,
    MaxPooling2D,
)
from trine.nn.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from trine.nn.rescaling import Rescaling
from trine.nn.sequential import Sequential

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "Activation",
    "Add",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "Input",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "Mismatches",
    "Model",
    "Module",
    "MultiHeadAttention",
    "Multiply",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv2D",
    "Sequential",
    "SimpleRNN",
    "Softmax",
    "Subtract",
    "dtype_policy",
    "initializers",
    "parameter",
    "training_mode",
]
