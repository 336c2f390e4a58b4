# CIFAR-100 as CIFAR-10; the host downloads it into data/cifar100.
_base_ = './cifar10_240.py'
data_preprocessor = dict(num_classes=100)
dataset = dict(type='CIFAR100', data_root='data/cifar100')
train_dataloader = dict(dataset=dataset)
val_dataloader = test_dataloader = dict(dataset=dataset)
