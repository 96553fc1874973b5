"""What users import or run that is no part of the controller's pod: the demo."""
