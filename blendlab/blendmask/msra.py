"""The authors' ResNet-50/101, assembled from torchvision's blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d


class FrozenBatchNorm(FrozenBatchNorm2d):
    """torchvision's, computed as upstream computes it, in one call: scale and shift apart round differently.

    The last bit matters where a box leaves the image: its mask's probability there is one half to the last bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class MsraResNet(nn.Module):
    """ResNet-50 or -101 as the authors' checkpoints expect it: frozen BN, and stride 2 in each stage's first 1x1.

    torchvision puts that stride in the 3x3 convolution, so it is moved.
    """

    channels = {"c2": 256, "c3": 512, "c4": 1024, "c5": 2048}

    def __init__(self, depth: int):
        super().__init__()
        net = {50: resnet.resnet50, 101: resnet.resnet101}[depth](weights=None, norm_layer=FrozenBatchNorm)
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.c2, self.c3, self.c4, self.c5 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        c2 = self.c2(self.stem(images))
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": self.c5(c4)}
