"""Nets on sequences: a DNA-like CNN, and a recurrent head over the columns of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.testing.zoo.entry import ZooNet

__all__ = ["NETS", "RecurrentHead", "SequenceCNN"]


class SequenceCNN(nn.Module):
    """Convolutions with dilation and ELU over four channels, max-pool, flattened into linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(4, 8, 7, padding=3), nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 3, padding=2, dilation=2)
        self.fc1, self.fc2 = nn.Linear(8 * 8, 12), nn.Linear(12, 3)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 3)`` for sequences ``(N, 4, 32)``."""
        x = functional.max_pool1d(functional.elu(self.bn1(self.conv1(x))), 2)
        x = functional.max_pool1d(torch.relu(self.conv2(x)), 2)
        logits: Tensor = self.fc2(self.dropout(functional.relu(self.fc1(x.view(len(x), -1)))))
        return logits


class RecurrentHead(nn.Module):
    """Convolutional features read column by column by an LSTM; its last state decides."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.lstm = nn.LSTM(4 * 6, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 3)``."""
        columns = self.features(x).permute(0, 3, 1, 2).flatten(2)
        states, _ = self.lstm(columns)
        logits: Tensor = self.fc(states[:, -1])
        return logits


NETS = (
    ZooNet(
        name="sequence_cnn",
        build=SequenceCNN,
        shapes=((4, 32),),
        habits="one spatial axis, four channels, dilated convolution, ELU, x.view into linear layers",
    ),
    ZooNet(
        name="cnn_lstm",
        build=RecurrentHead,
        shapes=((1, 12, 16),),
        habits="columns of a feature map through nn.LSTM, the last state decides",
    ),
)
