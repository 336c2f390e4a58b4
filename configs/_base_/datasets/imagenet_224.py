# ImageNet-1k in data/imagenet, with DeiT's augmentation as the host has it (RandAugment m9
# mstd0.5, random erasing 0.25) and repeated augmentation. DeiT's colour jitter of 0.4 does nothing
# beside RandAugment (timm's create_transform switches it off). In tests the short side becomes
# int(256 / 224 * size), as CoaT's and CrossViT's authors have it, and the centre is cut out.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

train_dataloader = dict(sampler=dict(type='RepeatAugSampler'))
