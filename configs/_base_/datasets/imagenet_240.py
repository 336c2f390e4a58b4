# As imagenet_224.py at CrossViT's 240 pixels: int(256 / 224 * 240) = 274.
_base_ = './imagenet_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 240
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 274
test_pipeline[2].crop_size = 240
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
