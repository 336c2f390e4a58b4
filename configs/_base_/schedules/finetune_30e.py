# To a higher resolution, from the weights of a lower one: 30 epochs are CrossViT's (arXiv
# 2103.14899); the rest, which we have not read of CrossViT and CaiT, is of CoaT's fine-tuning
# (coat_384_6e.py), at a constant rate for a batch of 512 (8 GPUs x 64).
_base_ = './deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True, end=30)]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
