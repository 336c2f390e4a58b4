# For plain transformers that were pretrained as classifiers. The authors of CaiT and CrossViT
# trained no detectors, so this is put together: the schedule is that of adamw_1x.py (CoaT's
# authors), and learning rates fall with depth as in ViTDet (configs of detectron2's
# projects/ViTDet), by 0.7 a layer for 12 layers and by 0.8 for 24: each config states its rate.
# What is 1-dimensional (norms, biases, LayerScale) and the embeddings have no weight decay, as in
# DeiT, with which both pretrain.
_base_ = './adamw_1x.py'

optim_wrapper = dict(
    constructor='mmvitx.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'backbone.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
