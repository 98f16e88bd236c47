"""What every room may use: errors, options, files, plain numbers. It knows no mask, no screen."""
