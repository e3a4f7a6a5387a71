"""The offline A/B: arms that differ in augmentation alone, over several seeds, judged per segment."""
