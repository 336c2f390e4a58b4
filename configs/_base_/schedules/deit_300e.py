# DeiT's recipe (arXiv 2012.12877) for a batch of 1024: AdamW, 5e-4 per 512 images, from 1e-6 in 5
# epochs and by a cosine to 1e-5 (both absolute), in epochs as in timm. No weight decay for what is
# 1-dimensional (norms, biases, LayerScale), class tokens and position embeddings. In mixed
# precision, as in engine.py of all three authors.
max_epochs = 300
warmup = 5
lr = 1e-3

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
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
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / lr, by_epoch=True, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=warmup, end=max_epochs),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)
