# As imagenet_224.py at CrossViT's 408 pixels (its 384): int(256 / 224 * 408) = 466.
_base_ = './imagenet_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 408
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 466
test_pipeline[2].crop_size = 408
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
