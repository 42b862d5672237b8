"""The pages of the site."""

from django.urls import path
from employees import views

urlpatterns = [
    path("", views.visits),
    path("employees/", views.create_employee),
    path("menu/<int:user_id>/", views.menu),
]
