# CaiT S-24 by hard distillation from a RegNetY-16GF, as all of CaiT's published weights are made
# (arXiv 2103.17239): 83.5 top-1 of those at 224 pixels, by timm. The teacher is timm's, with the
# file that DeiT's authors distil from (its address: timm's regnety_160.deit_in1k). Any other
# classifier of MMPretrain does, as teacher=dict(config='resnet50_8xb32_in1k', checkpoint=...).
_base_ = './cait_s24_8xb128_in1k.py'

model = dict(
    type='mmvitx.DistilledImageClassifier',
    teacher=dict(
        config=dict(model=dict(type='TimmClassifier', model_name='regnety_160')),
        checkpoint='https://dl.fbaipublicfiles.com/deit/regnety_160-a5fe301d.pth',
    ),
    alpha=0.5,
)
