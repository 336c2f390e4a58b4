# CrossViT's transfer recipe (arXiv 2103.14899): 1,000 epochs of SGD at 0.01 in batches of 768
# (8 GPUs x 96), weight decay 1e-4. The cosine is ours; momentum is the usual 0.9.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, end=1000)]
train_cfg = dict(by_epoch=True, max_epochs=1000, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=768)
