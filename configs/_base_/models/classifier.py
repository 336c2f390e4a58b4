# What all classifiers share: the host's ImageClassifier on the class token, and what DeiT's recipe
# (arXiv 2012.12877) says of the loss and of mixing images. A config adds the backbone, and its
# width for the head.
model = dict(
    type='ImageClassifier',
    backbone=dict(out_type='cls_token'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
