# The segmentation recipe of Swin (swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k of mmseg),
# whose numbers XCiT's has too (semantic_segmentation/configs/xcit/upernet/ of
# facebookresearch/xcit): AdamW, 1,500 iterations of warm-up, then linearly to zero, no weight decay
# for norms and embeddings, 8 GPUs x 2 images.
_base_ = 'mmseg::_base_/schedules/schedule_160k.py'

optimizer = dict(_delete_=True, type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01)
optim_wrapper = dict(
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
