"""What CT physicists ask of an image: noise texture, sharpness, bias, detectability, dose."""
