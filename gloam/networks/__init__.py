"""Every network, a family a file, and its weights in and out; knows nothing of training or export."""
