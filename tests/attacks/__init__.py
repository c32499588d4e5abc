"""What a hostile or broken checkpoint, bundle, disk or signal must not achieve."""
