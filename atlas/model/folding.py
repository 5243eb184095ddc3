"""A ResNet tower with its batch norms folded into the convolutions before them: the same numbers, sooner.

A folded tower is made for one call and thrown away: it costs less than a batch, holds no memory between calls, and
follows every edit of the model's weights. What is not a convolution is shared with the model, not copied.
"""

import copy
from itertools import pairwise

from open_clip.modified_resnet import ModifiedResNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A stand-in for `model` that has its image tower alone, folded; the model itself where folding does not serve.

    Every module keeps its path and its output but the folded convolutions, whose output is now their norm's. A model
    that is hooked, in training or no ModifiedResNet (whose norms all follow their convolution directly) is left alone.
    """
    visual = model.get_submodule("visual")
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in visual.modules())
    if hooked or visual.training or not isinstance(visual, ModifiedResNet):
        return model
    shared = {id(tensor): tensor for tensor in (*visual.parameters(), *visual.buffers())}
    stand_in = nn.Module()
    stand_in.visual = copy.deepcopy(visual, shared)
    for module in stand_in.visual.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return stand_in
